"""Methods side by side at equal compute.

Every method gets the same number of tuning trials, judged on one split; its best point by pass@k is
then used for all seeds, and the other split is looked at once. Nothing of a run depends on which
other runs there are, so a comparison can be stopped, continued and extended.

`study` says what is compared, `plan` which runs that makes, `gather` puts what they left into raw
tables, and `analyse`, `table` and `figure` need nothing but these.
"""
