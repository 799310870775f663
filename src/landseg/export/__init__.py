"""Export: trained models for other programs, with model cards."""
