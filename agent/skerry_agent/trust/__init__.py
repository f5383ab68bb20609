"""Enrolment, update repository, downloads and signatures: heavy libraries, so only in short-lived child processes."""
