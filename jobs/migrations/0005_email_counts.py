from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('jobs', '0004_attempt_deferred'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='delivery',
            index=models.Index(condition=models.Q(('channel', 'email')), fields=['delivered_at'], name='email_by_time'),
        ),
        AddIndexConcurrently(
            model_name='delivery',
            index=models.Index(condition=models.Q(('channel', 'email'), ('status', 'pending')), fields=['lease_until'], name='email_under_way'),
        ),
    ]
