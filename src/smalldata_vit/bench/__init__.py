"""What the step, the views and the commands cost: counted without a clock, and timed beside other ways to do it."""
