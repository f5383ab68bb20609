"""Model and profile to bundle: front ends, passes, engines, a measured tournament, and the packer."""
