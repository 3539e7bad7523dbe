import java.time.Duration;
import java.util.Arrays;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.Stores;

/** Kafka Streams counts the words of a topic's lines, exactly once, as a group of either protocol. Until killed. */
public final class WordCount {
    public static void main(String[] arguments) throws InterruptedException {
        String bootstrap = arguments[0], in = arguments[1], out = arguments[2], state = arguments[3], protocol = arguments[4];
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(in, Consumed.with(Serdes.String(), Serdes.String()))
                .flatMapValues(line -> Arrays.asList(line.toLowerCase(Locale.ROOT).split("[^a-z]+")))
                .filter((key, word) -> !word.isEmpty())
                .groupBy((key, word) -> word, Grouped.with(Serdes.String(), Serdes.String()))
                .count(Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("counts"))
                        .withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
                .toStream()
                .mapValues(count -> count.toString())
                .to(out, Produced.with(Serdes.String(), Serdes.String()));
        Properties settings = new Properties();
        settings.putAll(Map.of(
                "application.id", in + "-words", "bootstrap.servers", bootstrap, "state.dir", state,
                "processing.guarantee", "exactly_once_v2", "num.stream.threads", 2, "commit.interval.ms", 100,
                // Each count is written, not only the last one of a commit.
                "statestore.cache.max.bytes", 0));
        settings.putAll(Map.of("producer.transaction.timeout.ms", 10_000, "group.protocol", protocol));
        if (protocol.equals("classic")) {
            // The broker says it to those of the other protocol.
            settings.putAll(Map.of("consumer.session.timeout.ms", 6_000, "consumer.heartbeat.interval.ms", 1_000));
        }
        KafkaStreams streams = new KafkaStreams(builder.build(), settings);
        streams.setUncaughtExceptionHandler(e -> {
            System.err.println("replaced: " + e);
            return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.start();
        Thread.sleep(Duration.ofHours(1).toMillis());
    }
}
