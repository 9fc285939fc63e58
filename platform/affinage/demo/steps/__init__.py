"""The steps of the tour, by what they show: documents, people, learning, evidence."""
