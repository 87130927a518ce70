"""Roll-ups: what happened in each minute and hour, added up."""
