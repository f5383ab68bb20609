"""The broker between devices and fleet: a small one of our own for the first start, mosquitto where it is installed."""
