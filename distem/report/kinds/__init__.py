"""What only one kind of model has to show: a module each, with a function `sections(run)`."""
