"""Language models: the one provider that the settings name, as the areas ask it."""
