"""Container images of agent and fleet, built from Debian's packages without an engine; and an engine to run them."""
