"""Equal parts of different networks, found and made stages of their own."""
