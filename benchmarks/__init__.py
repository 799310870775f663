"""How fast landseg is: each module measures one thing, beside another way of doing the same work."""
