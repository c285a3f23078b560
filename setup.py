"""Install worldvla_ros with pip into an environment that holds ROS 2 wheels.

colcon does not read this file: package.xml asks for ament_cmake, so colcon uses CMakeLists.txt.
Here the same CMakeLists.txt is built and its install tree becomes the contents of the wheel.
"""

import hashlib
import os
from pathlib import Path
import shutil
import subprocess
import sys

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

NAME = 'worldvla_ros'
HERE = Path(__file__).parent.resolve()


def ros_prefixes():
    """Return the prefixes that hold ROS 2: the sourced ones, then the virtual environment."""
    found = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    if (Path(sys.prefix) / 'share/ament_index').is_dir() and sys.prefix not in found:
        found.append(sys.prefix)
    if not found:
        sys.exit(
            'No ROS 2: source its setup file, or first install the wheels of '
            'requirements/ros-kilted.txt or requirements/ros-jazzy.txt into this environment.'
        )
    return found


class BuildWithCMake(build_py):
    """Build CMakeLists.txt and take its install tree into the wheel."""

    def run(self):
        super().run()
        # one build folder per ROS 2: a CMake cache must not meet another distribution
        key = hashlib.sha256(os.pathsep.join(ros_prefixes()).encode()).hexdigest()[:12]
        build = Path(self.get_finalized_command('build').build_temp).resolve() / key
        install = build / 'install'
        env = dict(os.environ)
        # pip's build isolation hides the environment's packages from every Python; bring them back
        env['PYTHONPATH'] = os.pathsep.join(
            p
            for p in env.get('PYTHONPATH', '').split(os.pathsep)
            if p and 'pip-build-env' not in p
        )
        env['AMENT_PREFIX_PATH'] = os.pathsep.join(ros_prefixes())
        env['CMAKE_PREFIX_PATH'] = os.pathsep.join(
            ros_prefixes() + [p for p in [env.get('CMAKE_PREFIX_PATH')] if p]
        )
        cmake = shutil.which('cmake', path=os.path.join(sys.prefix, 'bin')) or 'cmake'
        configure = [
            cmake,
            '-S',
            str(HERE),
            '-B',
            str(build / 'cmake'),
            '-DBUILD_TESTING=OFF',
            '-DCMAKE_BUILD_TYPE=Release',
            f'-DCMAKE_INSTALL_PREFIX={install}',
            f'-DPython3_EXECUTABLE={sys.executable}',
        ]
        compile_all = [
            cmake,
            '--build',
            str(build / 'cmake'),
            '--target',
            'install',
            '--parallel',
            str(os.cpu_count()),
        ]
        for command in (configure, compile_all):
            # an exception would be swallowed by setuptools in an editable install
            if subprocess.call(command, env=env):
                sys.exit(f'Building the interfaces failed: {" ".join(command)}')
        generated = next(install.glob(f'lib/**/{NAME}/msg/__init__.py')).parent.parent
        target = HERE / NAME if self.editable_mode else Path(self.build_lib) / NAME
        for source in generated.rglob('*'):
            relative = source.relative_to(generated)
            if source.suffix == '.so' or (
                source.suffix == '.py' and relative.parts[0] in ('msg', 'srv', 'action')
            ):
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target / relative)
        for root, _, files in os.walk(install):
            if files and generated.parent not in [Path(root), *Path(root).parents]:
                self.distribution.data_files.append(
                    (os.path.relpath(root, install), [os.path.join(root, f) for f in files])
                )


class PlatformDistribution(Distribution):
    """A distribution bound to one platform, whose data files survive an editable install."""

    def has_ext_modules(self):
        return True

    def has_data(self):  # asked by setuptools' editable_wheel, which else leaves out data files
        return True


setup(
    name=NAME,
    version='0.1.0',
    description='WorldVLA for ROS 2: action chunks and imagined images from one transformer',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(
        include=[NAME, f'{NAME}.*'],
        exclude=[f'{NAME}.{kind}*' for kind in ('msg', 'srv', 'action')],
    ),
    package_data={NAME: ['py.typed']},
    data_files=[],
    install_requires=[
        'daqp>=0.7,<1',
        'einops>=0.8',
        'numpy>=1.26,<3',
        'pillow>=10',
        'pin>=3.4,<5',
        'pyyaml>=6',
        'safetensors>=0.4',
        'tokenizers>=0.20',
        'torch>=2.5',
    ],
    extras_require={
        'complete': ['argcomplete>=3.1,<4'],
        'hub': ['huggingface_hub>=0.23'],
        'libero': ['gymnasium>=1.0,<2', 'hf-libero>=0.1.4', 'tqdm>=4.66'],
        'quantise': ['torchao>=0.18,<0.19'],
        'rerun': ['rerun-sdk>=0.41,<0.42'],
        'sim': ['gymnasium>=1.0,<2', 'mujoco>=3.3,<5', 'pyopengl>=3.1', 'tqdm>=4.66'],
        'view': ['viser>=1.1,<2'],
        'record': ['imageio>=2.34', 'imageio-ffmpeg>=0.5', 'mcap>=1.6', 'mcap-ros2-support>=0.6'],
    },
    entry_points={'console_scripts': ['worldvla = worldvla_ros.cli:main']},
    cmdclass={'build_py': BuildWithCMake},
    distclass=PlatformDistribution,
    zip_safe=False,
)
