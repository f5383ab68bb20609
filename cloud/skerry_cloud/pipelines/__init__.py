"""The durable walk from an alarm to a new model on the devices."""
