"""What makes the machine fast: a whole run as one compiled operator.

`operator` is the door; it takes tensors and numbers, and knows of the machine only the table of its modules.
Behind it, from the whole to the parts: `machine` (all time steps and back), `circuit` (one step), `modules`,
`choices`, `controllers`, `weights`, and `lanes`, in whose vectors they all count. `layout` names what they share.
"""
