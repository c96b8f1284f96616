"""What every MIRAGE service is built with."""
