"""Workers on a shared folder: the spool, the driver's side of it, and the worker's."""
