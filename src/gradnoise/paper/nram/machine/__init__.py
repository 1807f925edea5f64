"""What the machine is: registers, memory, modules, controller; soft and hard."""
