"""The verb of the command that judges robot descriptions: thin, over the package."""

import argparse

from worldvla_ros.cli.parts import JSON_HELP, add_output, add_verb, write_json
from worldvla_ros.errors import ConfigError, RobotError


def add_robots(verbs: argparse._SubParsersAction) -> None:
    """Add the verb `robot check`."""
    robot = verbs.add_parser('robot', help='Judge a robot description.')
    check = add_verb(
        robot.add_subparsers(required=True, metavar='WHAT'), 'check', _check,
        'Tell what is inconsistent in a robot description and with its URDF; exits 1 if anything '
        'is.',
        'worldvla robot check my_arm.yaml --urdf my_arm.urdf',
    )  # fmt: skip
    check.add_argument('robot', metavar='FILE', help='YAML file, or the name of a shipped robot')
    check.add_argument(
        '--urdf', default='', help='URDF file to use instead of the one that it names'
    )
    add_output(check, '--json', default='', help=JSON_HELP)


def _check(arguments: argparse.Namespace) -> int:
    from worldvla_ros.robot.check import check_robot, finding_of
    from worldvla_ros.robot.description import load_robot
    from worldvla_ros.robot.urdf import read_urdf_file

    try:
        urdf = read_urdf_file(arguments.urdf, '--urdf') if arguments.urdf else None
        findings = check_robot(load_robot(arguments.robot), urdf)
    except (ConfigError, RobotError) as error:
        findings = [finding_of(error, 'description')]
    for finding in findings:
        kind = 'problem' if finding.problem else 'note'
        print(f'{kind}: {finding.field}: {finding.text}. {finding.remedy}')
    problems = sum(finding.problem for finding in findings)
    notes = len(findings) - problems
    print(f'{arguments.robot}: {_count(problems, "problem")}, {_count(notes, "note")}')
    write_json(arguments.json, {'findings': [vars(finding) for finding in findings]})
    return 1 if problems else 0


def _count(number: int, what: str) -> str:
    return f'{number} {what}' if number == 1 else f'{number} {what}s'
