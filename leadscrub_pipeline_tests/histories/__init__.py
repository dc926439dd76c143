"""Random histories of a deployment: runs, kills, faults, clocks and settings mixed from one seed, then checked.

``python -m leadscrub_pipeline_tests.histories SEED`` runs one again and tells what happens.
"""
