"""A recipe is a list of stages; a command is a recipe of one stage."""
