"""Clusters from files of Ray's launcher: what one would start, what it costs, and the launcher."""

from zoo_search.cluster.launch.file import LaunchFile, NodeType, check_ready, read_launch_file
from zoo_search.cluster.launch.launcher import Running, bring_down, bring_up, running
from zoo_search.cluster.launch.telling import plan_lines, plan_table, running_line, running_table

__all__ = [
    "LaunchFile",
    "NodeType",
    "Running",
    "bring_down",
    "bring_up",
    "check_ready",
    "plan_lines",
    "plan_table",
    "read_launch_file",
    "running",
    "running_line",
    "running_table",
]
