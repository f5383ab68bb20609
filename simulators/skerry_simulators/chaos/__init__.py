"""Real parts under kill -9, lost packets, partitions and full disks: is every kept sample stored, and only once?"""
