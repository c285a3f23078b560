"""Policy and world model in one process, on one copy of the weights; acting goes first."""

from worldvla_ros.nodes.host import ModelHost
from worldvla_ros.nodes.policy import PolicyNode
from worldvla_ros.nodes.spin import run
from worldvla_ros.nodes.world_model import WorldModelNode


def main() -> int:
    """Run both nodes."""
    host = ModelHost()
    return run(lambda: PolicyNode(host), lambda: WorldModelNode(host))


if __name__ == '__main__':
    raise SystemExit(main())
