"""From a request to records: plan, process, training, evaluation, clocks."""
