"""What a run is and what it left behind: schema, folder of records, export."""
