"""Microcontrollers: images of models, and the agent's core built for a board."""
