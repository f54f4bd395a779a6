"""What looks for partitions: restarts of an inner method, and what polishes the best of them."""
