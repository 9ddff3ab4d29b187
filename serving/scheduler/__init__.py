"""What runs next. `decide` is pure: events in, actions out, time an argument; `engine` does what it says."""
