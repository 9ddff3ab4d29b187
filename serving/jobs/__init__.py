"""What the server must not forget: instances, series, jobs, results, deliveries, in one journal."""
