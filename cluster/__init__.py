"""A run as a whole: messages, main loop, Ray, records, reports, plans, and the command line."""
