"""The verb of the command that looks at this machine: thin, over the package."""

import argparse

from worldvla_ros.cli.parts import JSON_HELP, add_output, add_verb, write_json


def add_doctor(verbs: argparse._SubParsersAction) -> None:
    """Add the verb `doctor`."""
    doctor = add_verb(
        verbs, 'doctor', _doctor,
        'Tell what this machine has and lacks, with remedies; exits 1 where something must be '
        'mended.',
        'worldvla doctor',
    )  # fmt: skip
    add_output(doctor, '--json', default='', help=JSON_HELP)


def _doctor(arguments: argparse.Namespace) -> int:
    from worldvla_ros.doctor import PROBLEM, examine

    checks = []
    for check in examine():
        checks.append(check)
        remedy = f'  {check.remedy}' if check.remedy else ''
        print(f'{check.state:8} {check.name:16} {check.text}.{remedy}', flush=True)
    write_json(arguments.json, {'checks': [vars(check) for check in checks]})
    return 1 if any(check.state == PROBLEM for check in checks) else 0
