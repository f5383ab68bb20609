"""MQTT 3.1.1 as our protocol profile uses it: packets without I/O, topic filters, and a small asyncio client."""
