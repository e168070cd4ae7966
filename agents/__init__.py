"""Online agents built on the streaming learner."""
