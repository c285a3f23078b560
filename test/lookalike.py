"""Packages that look like those of others: built from the field lists in test/lookalikes.

moveit_msgs, control_msgs, franka_msgs and tf2_msgs are not on PyPI. Their published fields
(moveit_msgs d4769cac, control_msgs a022445d, franka_msgs 452f473f) are enough to try bridges and
frames with real messages of the real names. Building takes half a minute, so that the result is
kept in the machine's folder of temporary files, under a name made of all that goes in.
"""

import fcntl
import hashlib
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile

SOURCES = Path(__file__).parent / 'lookalikes'
PACKAGES = ('moveit_msgs', 'control_msgs', 'franka_msgs', 'tf2_msgs')
DEPENDENCIES = ('action_msgs', 'builtin_interfaces', 'geometry_msgs', 'sensor_msgs', 'std_msgs')
RECIPE = """cmake_minimum_required(VERSION 3.20)
project({package} LANGUAGES C CXX)
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{find}
file(GLOB files RELATIVE "${{CMAKE_CURRENT_SOURCE_DIR}}" msg/*.msg srv/*.srv action/*.action)
rosidl_generate_interfaces(${{PROJECT_NAME}} ${{files}} DEPENDENCIES {dependencies})
# wheels export include directories of the machine that made them; CMake refuses what is not there
get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
foreach(target IN LISTS targets)
  get_target_property(dirs ${{target}} INTERFACE_INCLUDE_DIRECTORIES)
  set(kept "")
  foreach(dir IN LISTS dirs)
    if(dir MATCHES "\\\\$<" OR EXISTS "${{dir}}")
      list(APPEND kept "${{dir}}")
    endif()
  endforeach()
  if(dirs)
    set_target_properties(${{target}} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${{kept}}")
  endif()
endforeach()
ament_package()
"""
MANIFEST = """<package format="3">
  <name>{package}</name><version>0.0.0</version><description>look-alike</description>
  <maintainer email="nobody@example.com">nobody</maintainer><license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  {depends}<member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def lack():
    """Return why the packages cannot be built here, or ''."""
    missing = [tool for tool in ('cmake', 'c++') if _tool(tool) is None]
    return f'{", ".join(missing)} missing: look-alike packages cannot be built' if missing else ''


def build():
    """Return (folder of Python packages, folder of shared libraries), built where they are not."""
    folder = Path(tempfile.gettempdir()) / f'worldvla_lookalikes-{os.getuid()}-{_key()}'
    folder.mkdir(mode=0o700, exist_ok=True)
    assert folder.stat().st_uid == os.getuid(), f'{folder} belongs to somebody else'
    with open(folder / 'lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two sessions one builds, the other waits
        install = folder / 'install'
        if not (folder / 'done').exists():
            for package in PACKAGES:
                _build(package, folder / 'build' / package, install)
            shutil.rmtree(folder / 'build')
            (folder / 'done').touch()
    init = next(install.glob(f'lib/**/{PACKAGES[0]}/__init__.py'))
    return init.parent.parent, install / 'lib'


def _key():
    parts = [sys.executable, sys.version, RECIPE, MANIFEST]
    for path in sorted(SOURCES.rglob('*.*')):
        parts += [str(path.relative_to(SOURCES)), path.read_text()]
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:16]


def _tool(name):
    return shutil.which(name, path=os.path.join(sys.prefix, 'bin')) or shutil.which(name)


def _build(package, folder, install):
    shutil.copytree(SOURCES / package, folder / 'source', dirs_exist_ok=True)
    find = '\n'.join(f'find_package({name} REQUIRED)' for name in DEPENDENCIES)
    recipe = RECIPE.format(package=package, find=find, dependencies=' '.join(DEPENDENCIES))
    (folder / 'source/CMakeLists.txt').write_text(recipe)
    depends = ''.join(f'<depend>{name}</depend>\n  ' for name in DEPENDENCIES)
    manifest = MANIFEST.format(package=package, depends=depends)
    (folder / 'source/package.xml').write_text(manifest)
    env = os.environ | {'CMAKE_PREFIX_PATH': sys.prefix, 'AMENT_PREFIX_PATH': sys.prefix}
    configure = [
        '-S', folder / 'source', '-B', folder / 'cmake', '-DBUILD_TESTING=OFF',
        '-DCMAKE_BUILD_TYPE=Debug', f'-DCMAKE_INSTALL_PREFIX={install}',
        f'-DPython3_EXECUTABLE={sys.executable}',
    ]  # fmt: skip
    for arguments in (configure, ['--build', folder / 'cmake', '--target', 'install', '-j2']):
        done = subprocess.run(
            [_tool('cmake'), *arguments], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
