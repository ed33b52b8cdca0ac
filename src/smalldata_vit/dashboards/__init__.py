"""What one sees of runs at W&B, as code: `python -m smalldata_vit.dashboards --entity E --project P`."""
