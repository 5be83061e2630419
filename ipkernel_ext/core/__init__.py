"""The cluster's decisions: three pure state machines and what they are made of."""
