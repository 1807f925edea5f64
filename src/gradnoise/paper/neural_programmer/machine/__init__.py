"""The network: encoder and selectors, soft and hard execution of the programs that it chooses, its loss."""
