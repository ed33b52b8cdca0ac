"""What a shell is offered while a command is typed."""
