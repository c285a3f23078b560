"""Node parameters: declared with type, range and description; read at each configure.

A parameter can be set while its node is unconfigured: before it is configured for the first time,
and after clean-up. Knows rclpy parameters. Must not know what a node is for. All of it runs in the
executor's thread.
"""

from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar, cast

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from worldvla_ros.errors import ConfigError

ParameterValue: TypeAlias = bool | int | float | str | list[str]
Value = TypeVar('Value', bound=ParameterValue)
Value_co = TypeVar('Value_co', bound=ParameterValue, covariant=True)


@dataclass(frozen=True)
class Rule(Generic[Value_co]):
    """What a parameter accepts: the type of its default, and a range for numbers."""

    default: Value_co
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """Return what is accepted, in words."""
        name = 'list of str' if isinstance(self.default, list) else type(self.default).__name__
        return name if self.low is None else f'{name} in [{self.low}, {self.high}]'

    def accept(self, value: object) -> Value_co:
        """Return the value as the type of the default.

        Raises:
            ValueError: It is of another type or out of range.
        """
        if isinstance(self.default, list) and not value:
            value = []  # `exclude:=[]` has no type on the command line and arrives as None
        if isinstance(self.default, float) and type(value) is int:
            value = float(value)
        fits = type(value) is type(self.default) and self._in_range(value)
        if not fits or (isinstance(value, list) and not all(isinstance(v, str) for v in value)):
            raise ValueError(f'{value!r}')
        return cast(Value_co, value)  # of the type of the default, as `fits` says

    def descriptor(self, description: str) -> ParameterDescriptor:
        """Return what `ros2 param describe` shows."""
        # this class checks types: rclpy's own check would reject an int for a float
        found = ParameterDescriptor(description=description, dynamic_typing=True)
        if self.low is None or self.high is None:
            return found
        if isinstance(self.default, float):
            limits = FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
            found.floating_point_range = [limits]
        else:
            found.integer_range = [
                IntegerRange(from_value=int(self.low), to_value=int(self.high), step=1)
            ]
        return found

    def _in_range(self, value: object) -> bool:
        if self.low is None or self.high is None:
            return True
        return isinstance(value, (int, float)) and self.low <= value <= self.high


class Parameters:
    """The parameters of a node: checked when declared, and settable only while unconfigured.

    `use_sim_time` belongs to the start of a process: a running node whose clock is exchanged would
    judge the age of everything that it holds by the wrong clock.
    """

    def __init__(self, node: Node) -> None:
        """Watch the parameters of a node, which begins unconfigured."""
        self.settable = True
        self._node = node
        self._rules: dict[str, Rule[ParameterValue]] = {}
        self._given: set[str] = set()
        self._lenient = self._own = False
        node.add_on_set_parameters_callback(self._judge)

    @contextlib.contextmanager
    def only_declaring(self) -> Iterator[None]:
        """Declare without judging: a wrong value is read as the default until it is needed."""
        self._lenient = True
        try:
            yield
        finally:
            self._lenient = False

    def declare(self, name: str, description: str, rule: Rule[Value]) -> Value:
        """Declare a parameter on the first call, and return its present value.

        A default may depend on other parameters: one that nobody gave a value follows it.

        Raises:
            ConfigError: Its value is of another type or outside the range.
        """
        if not self._node.has_parameter(name):
            self._declare(name, description, rule.default)
        self._rules[name] = rule
        given = self._node.get_parameter(name).value
        if name not in self._given and given != rule.default:
            self._set(name, rule.default)
            given = rule.default
        try:
            value = rule.accept(given)
        except ValueError as error:
            if self._lenient:
                return rule.default
            raise ConfigError(
                f'parameter {name} ({description})',
                expected=rule,
                got=error,
                remedy='Correct the parameter file, the command line or the parameter, and '
                'configure the node again.',
            ) from error
        if type(given) is not type(value):
            self._set(name, value)
        self._node.set_descriptor(name, rule.descriptor(description))
        return value

    def _declare(self, name: str, description: str, default: ParameterValue) -> None:
        """Declare a parameter, and note whether its value was given at the start."""
        plain = ParameterDescriptor(description=description, dynamic_typing=True)
        if self._node.declare_parameter(name, None, plain).value is None:
            self._node.undeclare_parameter(name)
            if self._node.declare_parameter(name, default, plain).value is not None:
                return
        self._given.add(name)  # also where it was given as [], which arrives as None

    def _set(self, name: str, value: ParameterValue) -> None:
        """Set a value that nobody gave."""
        self._own = True
        self._node.set_parameters([_parameter(name, value)])
        self._own = False

    def _judge(self, parameters: list[Parameter]) -> SetParametersResult:
        if self._own:
            return SetParametersResult(successful=True)
        for parameter in parameters:
            reason = self._refusal(parameter)
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        self._given.update(p.name for p in parameters if p.name in self._rules)
        return SetParametersResult(successful=True)

    def _refusal(self, parameter: Parameter) -> str:
        """Return why a parameter cannot take a value now, or nothing."""
        if parameter.name == 'use_sim_time':
            return 'use_sim_time is read when the process starts: restart the node with it'
        rule = self._rules.get(parameter.name)
        if rule is None:
            return ''  # it is being declared
        if not self.settable:
            return (
                f'parameter {parameter.name} is read when the node is configured: deactivate and '
                'clean up the node, set it, then configure'
            )
        try:
            rule.accept(parameter.value)
        except ValueError as error:
            return f'parameter {parameter.name}: expected {rule}, got {error}'
        return ''


def _parameter(name: str, value: ParameterValue) -> Parameter:
    """Return a parameter with a value; an empty list does not show what it is a list of."""
    if isinstance(value, list):
        return Parameter(name, Parameter.Type.STRING_ARRAY, value)
    return Parameter(name, value=value)
