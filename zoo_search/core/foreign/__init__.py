"""What strangers send, looked at before a library reads it: pickles, pictures, copies."""
