from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models

IS_WAITING = models.Q(('is_due', True), ('status', 'queued'))


class Migration(migrations.Migration):

    # The release before claims without its index while this runs: by one of all jobs' states.
    atomic = False

    dependencies = [
        ('jobs', '0002_job_account_priority'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='job',
            index=models.Index(condition=IS_WAITING, fields=['-account_priority', 'rank', 'id'], name='job_by_turn'),
        ),
        AddIndexConcurrently(
            model_name='job',
            index=models.Index(condition=IS_WAITING, fields=['account', 'account_priority', '-rank'], name='job_turn_of_account'),
        ),
        AddIndexConcurrently(
            model_name='job',
            index=models.Index(condition=IS_WAITING, fields=['account', 'account_priority', '-priority', 'id'], name='job_best_of_account'),
        ),
        RemoveIndexConcurrently(model_name='job', name='job_in_order'),
        RemoveIndexConcurrently(model_name='job', name='job_rank_of_account'),
    ]
