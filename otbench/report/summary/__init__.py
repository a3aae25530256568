"""Which solver when: what all records together say, from the ranking on one instance to a guide by need."""
