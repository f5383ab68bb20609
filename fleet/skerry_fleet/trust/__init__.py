"""What the fleet signs with: certificate authority, update repository (TUF), assignments (DSSE) and the keys."""
