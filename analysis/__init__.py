"""What a sweep allows to conclude: evaluation, statistics, comparison, causes of failure, report."""
