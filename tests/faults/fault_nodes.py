"""A Ray cluster of three nodes on this machine, whose nodes can be killed and replaced.

Reads commands from its standard input, `kill` or `add`, and answers each with a line; the first
line is the cluster's address.
"""

from __future__ import annotations

import random
import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    chance = random.Random(int(sys.argv[1]))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        if line.strip() == "kill" and nodes:
            # The head is the cluster: with it all is gone, which is another test.
            cluster.remove_node(nodes.pop(chance.randrange(len(nodes))), allow_graceful=False)
        elif line.strip() == "add":
            nodes.append(cluster.add_node(num_cpus=1))
        sys.stdout.write(f"{len(nodes)}\n")
        sys.stdout.flush()
    cluster.shutdown()
