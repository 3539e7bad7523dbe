import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Transactions as an application uses them; see the script beside it. */
public final class ExactlyOnce {
    private static final Duration PATIENCE = Duration.ofSeconds(180);
    private static final Duration POLL = Duration.ofMillis(200);
    private final String bootstrap;

    private ExactlyOnce(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) {
        ExactlyOnce here = new ExactlyOnce(arguments[1]);
        switch (arguments[0]) {
            case "basic" -> here.basic(arguments[2]);
            case "feed" -> here.feed(arguments[2], Integer.parseInt(arguments[3]));
            case "transform" -> here.transform(arguments[2], arguments[3], arguments[4]);
            case "verify" -> here.verify(arguments[2], Integer.parseInt(arguments[3]));
            case "latest" -> here.latest(arguments[2]);
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    /** What is seen of committed, aborted, open, fenced and forgotten transactions. */
    private void basic(String topic) {
        String id = topic + "-id";
        KafkaProducer<String, String> first = producer(id, 60_000);
        first.initTransactions();
        transaction(first, topic, "a", 10, true);
        transaction(first, topic, "b", 10, false);
        transaction(first, topic, "c", 10, true);
        first.beginTransaction();
        send(first, topic, "d", 5);
        first.flush();
        expect("what is not committed is there", 35, () -> read(topic, false).size());
        expect("committed records", 20, () -> read(topic, true).size());
        first.commitTransaction();
        expect("committed records", 25, () -> read(topic, true).size());
        check(read(topic, true).stream().noneMatch(value -> value.startsWith("b")), "an aborted record was read");

        first.beginTransaction();
        send(first, topic, "e", 5);
        first.flush();
        KafkaProducer<String, String> second = producer(id, 60_000);
        second.initTransactions();
        try {
            first.commitTransaction();
            throw new IllegalStateException("a fenced producer has committed");
        } catch (ProducerFencedException | InvalidProducerEpochException fenced) {
            first.close(Duration.ZERO);
        }
        transaction(second, topic, "f", 5, true);
        expect("committed records after the fencing", 30, () -> read(topic, true).size());
        check(read(topic, true).stream().noneMatch(value -> value.startsWith("e")), "a fenced record was read");
        second.close();

        KafkaProducer<String, String> forgetful = producer(id + "-forgetful", 1_000);
        forgetful.initTransactions();
        forgetful.beginTransaction();
        send(forgetful, topic, "g", 5);
        forgetful.flush();
        KafkaProducer<String, String> other = producer(id + "-other", 60_000);
        other.initTransactions();
        transaction(other, topic, "h", 5, true);
        // Held up by the open transaction until that is aborted by its timeout.
        expect("committed records after the timeout", 35, () -> read(topic, true).size());
        check(read(topic, true).stream().noneMatch(value -> value.startsWith("g")), "a timed out record was read");
        forgetful.close(Duration.ZERO);
        other.close();
    }

    private void feed(String topic, int count) {
        try (KafkaProducer<String, String> producer = producer(null, 0)) {
            IntStream.range(0, count).forEach(n -> producer.send(new ProducerRecord<>(topic, "" + n, "" + n)));
        }
    }

    /** Takes numbers from one topic, puts them into the other, in transactions; some are aborted on purpose. Until killed. */
    private void transform(String in, String out, String instance) {
        while (true) {
            try (KafkaConsumer<String, String> consumer = consumer(in + "-group", true);
                    KafkaProducer<String, String> producer = producer(instance, 10_000)) {
                producer.initTransactions();
                consumer.subscribe(List.of(in));
                Random random = new Random();
                while (true) {
                    List<ConsumerRecord<String, String>> records = new ArrayList<>();
                    consumer.poll(POLL).forEach(records::add);
                    if (records.isEmpty()) {
                        continue;
                    }
                    producer.beginTransaction();
                    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                    for (ConsumerRecord<String, String> record : records) {
                        producer.send(new ProducerRecord<>(out, record.key(), record.value()));
                        TopicPartition from = new TopicPartition(record.topic(), record.partition());
                        offsets.put(from, new OffsetAndMetadata(record.offset() + 1));
                    }
                    producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                    if (random.nextInt(10) == 0) {
                        producer.abortTransaction();
                        throw new KafkaException("begin again from what is committed");
                    }
                    producer.commitTransaction();
                }
            } catch (KafkaException again) {
                // As the documentation of the producer says: whatever it is, close, and begin again.
                System.err.println(instance + ": " + again);
            }
        }
    }

    /** Each number up to the count is there once. */
    private void verify(String topic, int count) {
        Map<Integer, Integer> seen = new TreeMap<>();
        expect("numbers", count, () -> {
            seen.clear();
            read(topic, true).forEach(value -> seen.merge(Integer.parseInt(value), 1, Integer::sum));
            seen.forEach((number, times) -> check(times == 1, number + " is there " + times + " times"));
            return seen.size();
        });
        check(seen.keySet().stream().allMatch(n -> n >= 0 && n < count), "other numbers");
        System.out.println(count + " numbers, each once; " + read(topic, false).size() + " with those of aborted transactions");
    }

    /** Prints the last committed value of each key. */
    private void latest(String topic) {
        Map<String, String> values = new TreeMap<>();
        records(topic, true).forEach(record -> values.put(record.key(), record.value()));
        values.forEach((key, value) -> System.out.println(key + " " + value));
    }

    private void transaction(KafkaProducer<String, String> producer, String topic, String name, int count, boolean commits) {
        producer.beginTransaction();
        send(producer, topic, name, count);
        if (commits) {
            producer.commitTransaction();
        } else {
            producer.flush();
            producer.abortTransaction();
        }
    }

    private static void send(KafkaProducer<String, String> producer, String topic, String name, int count) {
        IntStream.range(0, count).forEach(n -> producer.send(new ProducerRecord<>(topic, n % 3, null, name + n)));
    }

    private List<String> read(String topic, boolean committed) {
        return records(topic, committed).stream().map(ConsumerRecord::value).toList();
    }

    /** All that can be read now, from the beginning to the end. */
    private Collection<ConsumerRecord<String, String>> records(String topic, boolean committed) {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = consumer(null, committed)) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                    .map(partition -> new TopicPartition(topic, partition.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                consumer.poll(POLL).forEach(all::add);
            }
        }
        return all;
    }

    private KafkaProducer<String, String> producer(String transactionalId, int timeoutMs) {
        Map<String, Object> settings = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap, "linger.ms", 5, "delivery.timeout.ms", 120_000, "max.block.ms", 120_000));
        if (transactionalId != null) {
            settings.put("transactional.id", transactionalId);
            settings.put("transaction.timeout.ms", timeoutMs);
        }
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    private KafkaConsumer<String, String> consumer(String group, boolean committed) {
        Map<String, Object> settings = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap, "enable.auto.commit", false, "auto.offset.reset", "earliest",
                "isolation.level", committed ? "read_committed" : "read_uncommitted", "max.poll.records", 100));
        if (group != null) {
            settings.put("group.id", group);
            settings.put("session.timeout.ms", 6_000);
            settings.put("heartbeat.interval.ms", 1_000);
        }
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    private interface Count {
        int now();
    }

    /** Waits until it is as many; more are wrong at once. */
    private static void expect(String what, int wanted, Count count) {
        Instant deadline = Instant.now().plus(PATIENCE);
        int last = count.now();
        while (last != wanted) {
            check(last < wanted && Instant.now().isBefore(deadline), what + ": " + last + " instead of " + wanted);
            last = count.now();
        }
    }

    private static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new IllegalStateException(otherwise);
        }
    }
}
