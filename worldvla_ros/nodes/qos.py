"""Profiles of quality of service, by what is sent. Knows rclpy. Must not know topics of a node."""

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy

SENSOR_QOS = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
JOINTS_QOS = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.BEST_EFFORT)
"""Several publishers share joint_states: with depth 1 their messages would replace each other. A
long queue would hand on old positions where the executor is slower than they."""
EVERY_JOINT_QOS = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.BEST_EFFORT)
"""For a loop that empties the queue each time: a fast publisher must not push out a slow one."""
RELIABLE_QOS = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
STATES_QOS = QoSProfile(depth=5, reliability=QoSReliabilityPolicy.RELIABLE)
"""Of those who publish joint states: heard by reliable and by best-effort subscriptions."""
SETPOINTS_QOS = QoSProfile(depth=20, reliability=QoSReliabilityPolicy.RELIABLE)
"""For a stream of which each message counts."""
LATCHED_QOS = QoSProfile(
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
