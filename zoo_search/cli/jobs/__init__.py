"""Commands that look at what runs elsewhere."""
