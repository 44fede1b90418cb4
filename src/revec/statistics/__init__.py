"""How sure a figure is: plain functions of numbers, each with its source. Nothing here touches the world."""
