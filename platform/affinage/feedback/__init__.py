"""What users say of answers: rating, correction, preference, regeneration. Append-only, idempotent, durable."""
