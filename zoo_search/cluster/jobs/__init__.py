"""The job server of a cluster: which jobs it has, their logs, and what its nodes do."""
