"""How it will be computed, decided ahead of time: pipelines become plans, plans become stages."""
