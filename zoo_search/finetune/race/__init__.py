"""The race: many networks begin, the best of each kind go on, the last ones to their end."""
